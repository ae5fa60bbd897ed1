declare module 'virtual:receivers' {
  const receivers: readonly (readonly [name: string, code: string])[];
  export default receivers;
}
declare module '*.css';
