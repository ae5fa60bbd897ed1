import type { Options } from '../../design/choice.js';
import { t } from '../../words/words.js';

/** How a receiver agrees, with the names of the methods. */
export function handshakes(): Options {
  return [
    ['none', t('editor.handshake.none')],
    ['challenge', t('editor.handshake.challenge')],
    ['cloudevents', 'CloudEvents'],
  ];
}
