"""`python -m alttrain.nano`: the study in an invented micro-world (recipe.py)."""

from alttrain.nano.recipe import main

if __name__ == "__main__":
    main()
