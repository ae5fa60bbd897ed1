// The vocabulary: one word for one thing, in code, tables, logs and documents. Each entry has words that were in use once, and what to write
// instead. `scripts/check-words.mjs` finds the old ones.
//
// cspell:ignore untell

/** Files and folders that are checked. */
export const PLACES = ['README.md', 'CHANGELOG.md', 'SECURITY.md', 'CONTRIBUTING.md', 'docs', 'libs/webhooks/src'];

/** `in`: which files are checked for it; without it, all. @type {{ old: RegExp, use: string, in?: RegExp }[]} */
export const OLD_WORDS = [
  {
    old: /\b(?:tell|tells|told|untold|untell)\b(?! (?:apart|the two apart|them apart|which))/i,
    use: 'capture, report, show or say which',
  },
  { old: /\btelling\b/i, use: 'capturing, reporting' },
  { old: /\bhears?\b|\bheard\b/i, use: 'receive, is notified' },
  { old: /\b(?:let|lets) (?:go|writes go)\b/i, use: 'restore, release' },
  { old: /\bputs? a hold\b|\bthe hold on\b/i, use: 'intercept' },
  { old: /\bwhat (?:it|stood) (?:was|before)\b/i, use: 'before image' },
  { old: /\b(?:wrote|written|writes?) down\b/i, use: 'capture, store' },
  { old: /\bset aside\b/i, use: 'marked as damaged' },
  { old: /\bspoil(?:s|t|ed)?\b|\bbroken\b/i, use: 'damaged, failed' },
  { old: /\bwhat (?:waits?|was waiting|is waiting)\b|\bstill stands?\b/i, use: 'pending, unfinished' },
  // In the code it is the name of a class, whose comment explains it.
  { old: /\blanes?\b/i, use: 'slot, batch, page', in: /\.md$/ },
  { old: /(?<!`)\bfacts?\b/i, use: 'lifecycle event' },
  { old: /\bgiven? up\b|\bgives? up\b|\bgrows? old\b/i, use: 'discard, expire, stop' },
  { old: /\b(?:looked|looks?) (?:at )?again\b|\banew\b/i, use: 'retry, probe, again' },
  { old: /\bfor ever\b/i, use: 'without end, never ends' },
  { old: /\bmended\b/i, use: 'corrected, fixed' },
  {
    old: /\b(?:nobody|somebody|anybody|everybody)'s\b|\bwhoever\b|\bwhosever\b/i,
    use: 'name who: the customer, the process, another writer',
  },
  { old: /\bof (?:theirs|yours|ours|its own|one's own)\b(?! [a-z])/i, use: 'your own …, its own …' },
  { old: /\bas ever\b|\bof old\b/i, use: 'as usual' },
  { old: /\bbut for\b|\bsave for\b/i, use: 'except', in: /\.md$/ },
];
