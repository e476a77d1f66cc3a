"""zarpar-host: the one program that works on a host. Standard library only, Python 3.11 to 3.13.

Installed by the action plugins as /usr/local/lib/zarpar/<hash>/ and called with a verb, JSON on standard input.
"""
