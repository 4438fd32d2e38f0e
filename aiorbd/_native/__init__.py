"""The door to C.

`loader` imports the two compiled modules and binds the functions of librados and librbd at their first call. `table`
loads the operation table, which is C as well. `marshal` converts Python values to C values and back. `image_options`
builds the options of a new image. `capabilities` tells which functions the installed libraries have. No other room
imports the compiled modules.
"""
