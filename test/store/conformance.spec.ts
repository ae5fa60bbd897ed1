import { databases } from '../support/databases.js';
import { describeStore } from './conformance.js';

for (const { name, create } of databases) describeStore(`the store on ${name}`, create);
