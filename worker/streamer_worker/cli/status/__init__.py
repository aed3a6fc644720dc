"""The command `status`: one screen about the fleet and the queue.

`reading` reads a `snapshot`, `findings` says what is wrong in it, and `view` draws both.
"""
