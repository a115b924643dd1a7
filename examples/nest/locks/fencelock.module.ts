import { ConfigurableModuleBuilder, Inject, Module, type OnApplicationShutdown } from '@nestjs/common'
import { LockManager, type ManagerOptions } from 'fencelock'

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } = new ConfigurableModuleBuilder<ManagerOptions>()
  .setClassMethodName('forRoot')
  .setExtras({ isGlobal: true }, (definition, { isGlobal }) => ({ ...definition, global: isGlobal }))
  .build()

/**
 * Provides the {@link LockManager} of the application. Import it once, with `forRoot(options)` or with
 * `forRootAsync({ useFactory, inject })`, and call `app.enableShutdownHooks()`.
 */
@Module({
  providers: [
    {
      provide: LockManager,
      inject: [MODULE_OPTIONS_TOKEN],
      useFactory: async (options: ManagerOptions) => {
        const locks = new LockManager(options)
        await locks.connect() // A wrong configuration fails at start-up.
        return locks
      },
    },
  ],
  exports: [LockManager],
})
export class FencelockModule extends ConfigurableModuleClass implements OnApplicationShutdown {
  @Inject(LockManager) private readonly locks!: LockManager

  /** Nest has stopped its schedules and has answered the last request: only jobs may still hold a lock. */
  async onApplicationShutdown(): Promise<void> {
    await this.locks.close({ drainMs: 20_000 })
  }
}
