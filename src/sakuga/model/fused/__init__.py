"""What a block does between its products, each as one kernel of a card, and as plain torch."""
