"""A connection to a cluster.

`connect` makes the connection on a worker thread, and `cluster` has the public class. `commands` sends commands to
monitors, managers and OSDs. `log` follows the cluster log. `shared` shares one connection and its open images among
tasks.
"""
