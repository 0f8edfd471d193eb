"""The commands of `handpose`, one module each: `add_options(parser)`, and `run(options)` where it is one command."""
