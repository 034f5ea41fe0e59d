"""Learning per region: from proxies and fields to what the posterior would be where no satellite saw."""
