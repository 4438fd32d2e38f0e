"""The interface to C.

`loader` imports the two generated modules, and binds each function of librados and librbd at the first call. `table`
loads the operation table, also a C module. `requests` names the kinds of requests. `marshal` converts Python values to
C values and back. `image_options` builds the options of a new image. `capabilities` tells which functions the installed
libraries have. `configuration` reads the options of a connection. No other folder imports the generated modules.
"""
