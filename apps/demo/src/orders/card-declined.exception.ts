import { HttpException, HttpStatus } from '@nestjs/common';

export class CardDeclinedException extends HttpException {
  constructor() {
    super('The card was declined.', HttpStatus.PAYMENT_REQUIRED);
  }
}
