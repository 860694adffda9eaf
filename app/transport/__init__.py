"""HTTP in general: bodies, queries, keys, responses and middleware, for every route of ours."""
