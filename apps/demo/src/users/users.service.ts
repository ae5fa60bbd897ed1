import { Injectable, NotFoundException } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Repository } from 'typeorm';
import { User } from './user.entity.js';

@Injectable()
export class UsersService {
  constructor(@InjectRepository(User) private readonly users: Repository<User>) {}

  create(username: string, email: string): Promise<User> {
    return this.users.save(this.users.create({ username, email }));
  }

  async changeEmail(id: number, email: string): Promise<User> {
    const user = await this.get(id);
    user.email = email;
    return this.users.save(user);
  }

  async get(id: number): Promise<User> {
    const user = await this.users.findOneBy({ id });
    if (!user) throw new NotFoundException(`There is no user ${id}.`);
    return user;
  }
}
