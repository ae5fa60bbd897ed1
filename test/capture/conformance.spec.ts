import { databases } from '../support/databases.js';
import { describeConformance } from './conformance.js';

for (const database of databases) describeConformance({ name: 'orm' }, database);
