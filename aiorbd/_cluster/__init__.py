"""A connection to a cluster.

`cluster` has the public class, and `connect` makes the connection on a worker thread. `commands` sends commands to
monitors, managers and OSDs, and `configuration` reads and sets options. `log` follows the cluster log. `statistics` has
statistics and observers. `shared_connection` shares one connection and its open images among tasks.
"""
