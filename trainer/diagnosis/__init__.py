"""Why a run does not learn: causes with their evidence, judged from what the run has logged."""
