"""The service on several machines, with Ray Serve: nothing here schedules or balances."""
