"""What results are shown as, on a terminal, in Markdown and in HTML alike: tables, notes, figures as values."""
