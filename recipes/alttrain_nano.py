"""A small-scale test of AltTrain's causal claim, run from a checkout; its settings are in recipes/nano/recipe.py.

make nano        or        python recipes/alttrain_nano.py --output runs/nano
python recipes/alttrain_nano.py --arms all --seeds 5 --assessment-weights 1 2 4 8 --output runs/nano-study
"""

from alttrain.nano.recipe import CONFIG, main

if __name__ == "__main__":
    main(CONFIG)
