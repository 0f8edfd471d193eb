"""The page that finds hands in the browser: how it is put together (`build`) and served on this computer (`server`).

Its source is `web/` of the repository, plain HTML, CSS and JavaScript modules.
"""
