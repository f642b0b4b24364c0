"""Changes that people make to galleries, screenshots and tags: each is an atomic function, called by keywords.

Arguments have the types of the models. `ownership` decides who may make a change. No function here writes what a
capture has measured.
"""
