import { Body, Controller, Post } from '@nestjs/common';
import { IsEmail, IsString, Length } from 'class-validator';
import { UsersService } from './users.service.js';

export class CreateUserDto {
  @IsString()
  @Length(1, 100)
  username: string;

  @IsEmail()
  email: string;
}

@Controller('users')
export class UsersController {
  constructor(private readonly users: UsersService) {}

  @Post()
  async create(@Body() { username, email }: CreateUserDto) {
    const { id } = await this.users.create(username, email);
    return { id, username, email };
  }
}
