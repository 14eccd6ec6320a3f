"""`python -m tutelage`."""

from .cli import main

main(prog_name="tutelage")
