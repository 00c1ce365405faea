"""Fuzz: damaged and hostile inputs of every kind, each of which must be read right or refused clearly.

    python -m tests.fuzz --inputs 2000 --seed 0                    # all kinds, and a table
    python -m tests.fuzz --kinds images --inputs 500               # one kind
    python -m tests.fuzz --only images:1234 --keep kept            # one input again, kept for a look

An input is made from its seed, kind and number alone. Each is read in a process of its own with bounded memory and time.
"""
