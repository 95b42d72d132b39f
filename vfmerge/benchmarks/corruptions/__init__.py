"""The fifteen common corruptions of Hendrycks and Dietterich (ICLR 2019, arXiv 1903.12261), in numpy and Pillow.

Of the libraries that have them, imagecorruptions 1.1.2 fails with numpy 2 (fog) and scikit-image 0.26 (glass_blur), and
imagecorruptions-imaug 1.1.5 draws from global state, refuses sides below 32 pixels and brings 450 MB of packages.
"""
