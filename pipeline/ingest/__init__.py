"""From files as agencies publish them to the cubes and tables of the contract, with every file accounted for."""
