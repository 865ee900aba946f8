"""The commands beside `fwdproxy run`: `cache`, whose subcommands look after what is stored, and `explain`.

`reach`: the running proxy of a data folder, or its store where none runs. `lists`: URL lists and sitemaps. `output`:
lines and progress bars.
"""
