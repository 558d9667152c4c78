"""The labels that people give: kept, compared, settled and handed on. The page to answer in stands on it."""
