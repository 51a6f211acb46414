"""Pictures from elsewhere: finding sheets, fetching them, reading their pixels."""
