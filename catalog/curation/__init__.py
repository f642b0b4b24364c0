"""Changes by people to galleries, screenshots and tags: each a function that is atomic and called by keywords.

What a function is given has the types of the models; who may ask for it is in `ownership`. What a capture has measured
no function here writes.
"""
