"""From notebooks to pages: executing, publishing, and building the site."""
