"""The service on more than one machine, by engines that exist already: nothing here schedules or balances."""
