"""optuna-dashboard with hpsearch's figures and verdicts, behind a guard."""
