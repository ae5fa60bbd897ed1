const ID = /^[a-z]{3}_[0-9a-f-]{36}$/;

export function isId(text: string): boolean {
  return ID.test(text);
}

/** `lst_019b…5a4f2a`. Other texts stay as they are. */
export function shortId(text: string): string {
  return isId(text) ? `${text.slice(0, 8)}…${text.slice(-6)}` : text;
}
