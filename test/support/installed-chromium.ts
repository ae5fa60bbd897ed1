import { existsSync } from 'node:fs';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** The browser of this machine: that of `CHROMIUM`, or else of Debian's package `chromium`. */
export const CHROMIUM: string | undefined = process.env['CHROMIUM'] ?? PLACES.find((place) => existsSync(place));
