"""`--check`: everything short of training, on one screen, with every fault and whether a card's memory suffices."""
