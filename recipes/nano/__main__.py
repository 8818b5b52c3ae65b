"""`python -m alttrain.nano`: the micro-world, wherever alttrain is installed."""

from alttrain.nano.recipe import main

if __name__ == "__main__":
    main()
