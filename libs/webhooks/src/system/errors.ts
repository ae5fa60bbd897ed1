import { BadRequestError } from '../errors.js';
import { show } from '../show.js';

/** There is no damaged event or image with this id. The code is `DAMAGED_NOT_FOUND`. */
export class DamagedNotFoundError extends BadRequestError {
  constructor(id: string) {
    super('DAMAGED_NOT_FOUND', `There is no damaged event or image ${show(id.slice(0, 64))}.`, { httpStatus: 404 });
  }
}
