// Made by scripts/build-ui.mjs from docs/receiving, whose examples the tests run against the library.
export { default as RECEIVERS } from 'virtual:receivers';
