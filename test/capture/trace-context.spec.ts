import { describe, expect, it } from 'vitest';
import { readTraceContext } from '../../libs/webhooks/src/events/trace-context.js';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = '00f067aa0ba902b7';
const VALID = `00-${TRACE}-${PARENT}-01`;

describe('a traceparent of W3C Trace Context', () => {
  it('is passed on unchanged', () => {
    expect(readTraceContext(VALID, undefined)).toEqual({ traceparent: VALID });
  });

  it('of a later version is passed on as the known version, with the only known flag', () => {
    expect(readTraceContext(`cc-${TRACE}-${PARENT}-03-more`, undefined)).toEqual({ traceparent: VALID });
    expect(readTraceContext(`01-${TRACE}-${PARENT}-02`, undefined)).toEqual({
      traceparent: `00-${TRACE}-${PARENT}-00`,
    });
  });

  it.each([
    ['upper case', `00-${TRACE.toUpperCase()}-${PARENT}-01`],
    ['no trace', `00-${'0'.repeat(32)}-${PARENT}-01`],
    ['no parent', `00-${TRACE}-${'0'.repeat(16)}-01`],
    ['an invalid version', `ff-${TRACE}-${PARENT}-01`],
    ['more fields than version 00 has', `${VALID}-more`],
    ['more text without a dash', `01-${TRACE}-${PARENT}-01x`],
    ['a line break', `${VALID}\r\nx-evil: 1`],
    ['a line break at the end', `${VALID}\n`],
    ['spaces', ` ${VALID}`],
    ['a list', [VALID]],
    ['nothing', undefined],
  ])('with %s is none', (_, given) => {
    expect(readTraceContext(given, 'a=1')).toBeNull();
  });
});

describe('a tracestate', () => {
  const stateOf = (state: unknown) => readTraceContext(VALID, state)?.tracestate;

  it('is passed on without spaces around its members and without empty members', () => {
    expect(stateOf('rojo=00f067aa0ba902b7,congo=t61rcWkgMzE')).toBe('rojo=00f067aa0ba902b7,congo=t61rcWkgMzE');
    expect(stateOf('a=1 ,\tfw529a3039@dt=x y, ,0b=a!~')).toBe('a=1,fw529a3039@dt=x y,0b=a!~');
  });

  it('has at most 32 members', () => {
    const members = Array.from({ length: 33 }, (_, n) => `k${n}=1`);
    expect(stateOf(members.slice(0, 32).join(','))).toBe(members.slice(0, 32).join(','));
    expect(stateOf(members.join(','))).toBeUndefined();
  });

  it.each([
    ['a key in upper case', 'A=1'],
    ['no value', 'a='],
    ['no key', '=1'],
    ['two equals signs', 'a=b=c'],
    ['a key twice', 'a=1,b=2,a=3'],
    ['a line break', 'a=1\r\nx-evil: 1'],
    ['a letter outside ASCII', 'a=ü'],
    ['a key of 257 characters', `${'a'.repeat(257)}=1`],
    ['a value of 257 characters', `a=${'1'.repeat(257)}`],
    ['a list', ['a=1']],
    ['nothing', ''],
  ])('with %s is left out, and the traceparent stays', (_, given) => {
    expect(readTraceContext(VALID, given)).toEqual({ traceparent: VALID });
  });
});
