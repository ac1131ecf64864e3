"""Features on disk: shards, the Hessian, the searchable index and its search.  No model is needed here."""
