"""A page on this computer on which a network proposes 21 points per picture and a person drags them.

`store.py` keeps the labels, `server.py` gives them to the page; `page.html`, `page.css` and `page.js` are the page.
"""
