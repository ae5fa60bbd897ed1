import { describe, expect, it } from 'vitest';
import {
  bitText,
  intervalDuration,
  parseArray,
  parseHstore,
  rangeOfInstants,
  zonedTime,
} from '../../libs/webhooks/src/entities/database-text.js';

describe('the text of a value of PostgreSQL', () => {
  it.each([
    ['{}', []],
    ['{a,"b c",NULL,"NULL",""}', ['a', 'b c', null, 'NULL', '']],
    [String.raw`{"a\"b","c\\d","{x}"}`, ['a"b', String.raw`c\d`, '{x}']],
    [
      '{{1,2},{3,4}}',
      [
        ['1', '2'],
        ['3', '4'],
      ],
    ],
    ['[0:1]={a,b}', ['a', 'b']],
    ['{"two\nlines"}', ['two\nlines']],
  ])('%s is an array', (text, items) => {
    expect(parseArray(text)).toEqual(items);
  });

  it('is no array if it is not exactly one array', () => {
    for (const text of ['', 'a', '{a', '{a}}', '{a}b', '(1,2)']) expect([text, parseArray(text)]).toEqual([text, null]);
  });

  it('has another delimiter for a list of boxes', () => {
    expect(parseArray('{(1,1),(0,0);(3,3),(2,2)}', ';')).toEqual(['(1,1),(0,0)', '(3,3),(2,2)']);
  });

  it('is recognized as an hstore, or refused', () => {
    expect(parseHstore('')).toEqual([]);
    expect(parseHstore(String.raw`"a"=>"1", "\"q\\"=>NULL, "NULL"=>"NULL"`)).toEqual([
      ['a', '1'],
      [String.raw`"q\ `.trimEnd(), null],
      ['NULL', 'NULL'],
    ]);
    expect(parseHstore('a=>1')).toBeNull();
  });

  it('of an interval is a duration, and so is the object that the driver makes of it', () => {
    expect(intervalDuration('1|2|3|104|5|6|789123')).toBe('P1Y2M3DT104H5M6.789123S');
    expect(intervalDuration('0|0|0|0|0|0|-00001')).toBe('PT-0.000001S');
    expect(intervalDuration({ seconds: -1, milliseconds: -500.5 })).toBe('PT-1.5005S');
    expect(intervalDuration({})).toBe('PT0S');
    expect(intervalDuration('1 day')).toBeNull();
  });

  it('of a time with a zone has the minutes of the zone', () => {
    expect(zonedTime('12:34:56.500+02')).toBe('12:34:56.5+02:00');
    expect(zonedTime('12:34-05:30')).toBe('12:34:00-05:30');
    expect(zonedTime('allballs')).toBe('allballs');
  });

  it('of a range of instants is in UTC and keeps infinity', () => {
    expect(rangeOfInstants('["2026-01-01 05:30:00+05:30",infinity)')).toBe('[2026-01-01T00:00:00.000Z,infinity)');
    expect(rangeOfInstants('{["2026-01-01 00:00:00+00","2026-01-02 00:00:00+00"),(,)}')).toBe(
      '{[2026-01-01T00:00:00.000Z,2026-01-02T00:00:00.000Z),(,)}',
    );
    expect(rangeOfInstants('empty')).toBe('empty');
  });
});

describe('the bytes of a bit column of MySQL', () => {
  it('are as many bits as the column has, if that is known, and at least one', () => {
    expect(bitText(Buffer.from([0]), 1)).toBe('0');
    expect(bitText(Buffer.from([5]), 1)).toBe('101');
    expect(bitText(Buffer.from([2, 5]), 12)).toBe('001000000101');
  });
});
