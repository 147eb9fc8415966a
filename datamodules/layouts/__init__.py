"""How annotated images lie on disk: one file a layout. `lightning_modules.formats.layouts` writes them."""
