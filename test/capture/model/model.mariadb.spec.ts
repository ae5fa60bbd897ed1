import { describeModel } from './describe-model.js';

describeModel('mariadb');
