"""Blobs on this machine's disk: made, received, checked, placed and collected. All of it blocks.

hashing     digests of chunks and of lists; which algorithms this process can check
disk        room, and what an error of the disk means for a person
inside      opening what is inside a folder without following a link out of it
store       which blobs are here; reading them, each chunk checked
part        a blob under way
making      a blob from a file, or from bytes
placing     a copy of a blob where a task finds it
globbing    which files of a folder are outputs
collecting  what may be removed
"""
