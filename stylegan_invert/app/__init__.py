"""The page in a browser: `session` does everything without Gradio, and `page` shows it."""
