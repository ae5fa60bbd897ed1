import { describeModel } from './describe-model.js';

describeModel('mysql2');
