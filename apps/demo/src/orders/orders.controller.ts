import { Body, Controller, HttpCode, Param, ParseIntPipe, Post } from '@nestjs/common';
import { IsIn, IsInt, IsOptional, Min } from 'class-validator';
import { OrdersService } from './orders.service.js';

export class PlaceOrderDto {
  @IsInt()
  customerId: number;

  @IsInt()
  @Min(1)
  totalCents: number;
}

export class PayOrderDto {
  @IsOptional()
  @IsIn(['accepted', 'declined'])
  card?: 'accepted' | 'declined';
}

@Controller('orders')
export class OrdersController {
  constructor(private readonly orders: OrdersService) {}

  @Post()
  place(@Body() { customerId, totalCents }: PlaceOrderDto) {
    return this.orders.place(customerId, totalCents);
  }

  @Post(':id/pay')
  @HttpCode(200)
  pay(@Param('id', ParseIntPipe) id: number, @Body() { card }: PayOrderDto) {
    return this.orders.pay(id, card);
  }

  @Post(':id/remind')
  @HttpCode(200)
  remind(@Param('id', ParseIntPipe) id: number) {
    return this.orders.remind(id);
  }
}
