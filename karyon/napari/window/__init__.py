"""What is seen in the window; imported when it is opened, since napari and Qt are."""
