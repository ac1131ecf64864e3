"""How good an attribution is: metrics, gold passages, experiments and their reports."""
