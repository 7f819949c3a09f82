"""The rules of commands and pushes: pure, standard library only, no I/O, clock or randomness."""
